"""The commands signet-translate and signet-doctor, and how they speak to a terminal."""
