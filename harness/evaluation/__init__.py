"""What an encoder is worth: protocols that read it, one file each."""
