"""The quality of a model beside all it is to be measured against."""
