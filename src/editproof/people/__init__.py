"""Finding people and faces in photos."""
