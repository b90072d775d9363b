"""Files on their way here: from many sources at once, verified before they are written."""
