"""The containers of images: from a file of a client to its first image alone.

Each module reads one format without decoding anything. What is left for the decoder has no metadata, no further images
and nothing behind the image, so that none of it can cost memory or time.
"""
