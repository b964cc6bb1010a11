"""Textures: the images that distractors draw from. One file for each texture."""
