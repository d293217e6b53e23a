"""Training speed, measured side by side: interleaving, disturbances, memory, FLOPs."""
