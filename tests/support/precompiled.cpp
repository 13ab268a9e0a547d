// Gives carillon_test_headers, whose precompiled headers the tests share, something to compile.
