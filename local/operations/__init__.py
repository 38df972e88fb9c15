"""Tools for operators: dead letters, restored tables, and costs."""
