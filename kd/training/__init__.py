"""Training: one loop for teachers, students and controls."""
