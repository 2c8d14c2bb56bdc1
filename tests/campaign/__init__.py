"""Mutation campaigns: thousands of damaged, odd and hostile inputs, through every door of the product."""
