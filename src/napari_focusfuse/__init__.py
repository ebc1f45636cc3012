"""All-in-focus images from one or three focus layers of cytology slides."""
