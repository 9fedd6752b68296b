"""Video as it comes and as it lies on disk: streams, segments, files, their pictures with exact PTS."""
