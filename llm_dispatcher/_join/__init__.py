"""What the join is made of: the form in which texts are compared, and the ways in which a model repeats a text."""
