// The source of carillon_test_headers, whose precompiled headers the tests share.
