"""Is the candidate good enough? Score tables, the gate that judges them, the evaluators and the run that fills them."""
