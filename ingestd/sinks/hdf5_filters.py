"""The filters that datasets are compressed with, beyond HDF5's own."""

from __future__ import annotations

from h5py import h5d, h5z


def need_filters(dataset: h5d.DatasetID) -> None:
    """See to it that HDF5 has what ``dataset`` is compressed with, if it is to be had."""
    filters = dataset.get_create_plist()
    codes = [filters.get_filter(position)[0] for position in range(filters.get_nfilters())]
    if not all(h5z.filter_avail(code) for code in codes):
        import hdf5plugin  # noqa: F401  late: it registers its filters, and takes 15 ms
