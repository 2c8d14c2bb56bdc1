"""The steps of `retrieve`, in files named for them."""
