"""What makes a release: packages, bill of materials, changelog, website. None of it is in the package."""
