"""Commands that make what the package ships; they need the group ``training``, and run by hand."""
