"""Drop array files into a directory; get an HDF5 dataset that grows and survives anything."""
