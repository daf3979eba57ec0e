"""A local Azure Machine Learning: the official SDK talks to it unmodified, under the real host names, on loopback."""
