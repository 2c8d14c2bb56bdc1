"""What `download` consists of: downloading a part, and the share of images below which it stops."""
