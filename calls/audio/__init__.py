"""What a frame of telephone voice is, and the beat that frames keep."""
