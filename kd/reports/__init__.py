"""Write runs as pages to give away."""
