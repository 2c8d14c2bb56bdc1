"""Customisation: block.py and attach.py (what is added to the image tower), loss.py, augment.py, optim.py. No ray."""
