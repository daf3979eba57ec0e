"""`doctor`: is everything that a release needs there, and if not, what to do about it?"""
