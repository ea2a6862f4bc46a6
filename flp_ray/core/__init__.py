"""The vocabulary of flp_ray: frozen values and their units. Needs the standard library and numpy alone."""
