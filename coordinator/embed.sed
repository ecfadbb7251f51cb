# Lines of text to C string literals.
s/[\\"]/\\&/g
s/.*/"&\\n"/
