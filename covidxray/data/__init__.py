"""Images, tables and data sets: from files to arrays and labels."""

SIZE = 224  # pixels: height and width of a decoded image
