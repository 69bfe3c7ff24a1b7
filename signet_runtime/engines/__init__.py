"""What runs the exported model."""
