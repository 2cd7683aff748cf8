"""What rows a call may be given, and how they are read: whole or one part at a time."""
