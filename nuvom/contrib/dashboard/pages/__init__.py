"""The pages: each function reads what its template shows."""
