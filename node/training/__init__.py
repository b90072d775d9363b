"""Models that ship by recipe: trained here from data every installation has."""
