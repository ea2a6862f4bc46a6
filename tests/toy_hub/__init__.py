"""Local copies of the hub's data sets at toy size, in their own schemas and layouts."""
