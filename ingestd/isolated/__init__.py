"""What reads files in a child process: C libraries that a bad file may crash, or hang.

The child's program is ``child``, its end here ``parent``; ``hdf5`` and ``mat`` know neither. What
a child says is believed as little as the file that it read.
"""
