"""`parley talk`: the reference client of the audio protocol, in a terminal."""
