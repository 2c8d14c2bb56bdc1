"""What every stage needs of Ray: a cluster, a place, a pipeline over parts."""
