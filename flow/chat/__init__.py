"""A small page to talk to the endpoint in a browser: `python -m chat` with flow/ as working folder or on PYTHONPATH."""
