"""Reading and writing of files that may be damaged, hostile or interrupted."""
