"""The desk: the pages by which people answer customers and watch that everything arrives."""
