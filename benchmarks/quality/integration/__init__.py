"""Batches of equal and of unequal composition: are they mixed, and do cell types stay together?"""
