"""One recipe over many classifiers, terms or photographs, in a sheet and a table."""
