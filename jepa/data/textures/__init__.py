"""Textures: the images that distractors are made of. One file a texture."""
