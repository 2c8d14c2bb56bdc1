"""What `report` consists of: the summary of the scores, and the contents of the page."""
