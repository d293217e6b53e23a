"""What methods are built from: tokens, masks, the shared encoder, decoders, teachers,
the joint graph, options.
"""
