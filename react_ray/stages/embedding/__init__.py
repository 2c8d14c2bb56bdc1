"""What `embed` consists of: reading or fetching its rows, and embedding a part."""
