"""Images, tables and data sets: from files to arrays and labels."""
