"""Clips: protected and edited frame by frame, steady over time, with everything else as it was."""
