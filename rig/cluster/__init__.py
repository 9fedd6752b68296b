"""Recordings by the thousand: the same steps on many processes or machines, from and to any store."""
