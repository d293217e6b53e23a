"""Pre-training: data on the device, the method on its encoder, the timed loop."""
