// What is in an HDF5 file, as plain data, found out by another process.
//
// The HDF5 library was not written for files of strangers: version 1.10.8 spins, writes past its buffers and follows
// names of other files. So no command reads a file with it. describe_hdf5 starts this same program again with next to
// nothing (hdf5_child.h: the open file, a pipe, limits of memory and processor time, no new privileges); that process
// opens the file with the library, looks at every group, link, type, shape, layout and filter, and writes down names
// and numbers. They are checked here against the file's size before anything believes them. Contiguous elements are
// then read straight from the file; a dataset in chunks is unpacked once, by such a process too, into an unnamed file.
//
// Cost of a description: the start of a process, about as long as `carillon --version` takes (data/README.md, "Files of
// others").
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "data/files/hdf5_file.h"

namespace carillon {

struct Hdf5Description {
  struct Entry {
    Hdf5File::Dataset dataset;
    int64_t place = -1;   // byte of the file at which the packed elements begin; -1: they do not lie there in one piece
    std::string refused;  // why it cannot be read; empty: it can
  };
  struct Attribute {
    std::string value;    // a text or bytes
    std::string refused;  // as above
  };
  std::map<std::string, Entry> datasets;        // by path, "model/model.norm.weight"
  std::map<std::string, Attribute> attributes;  // of the root: texts and arrays of bytes; others are left out
};

// `descriptor`: the file, opened to read, of `size` bytes; `path` names it in messages. Error 65 when it is no HDF5
// file, damaged, or makes the library crash or spin; 74 when the disk fails or no process can be started.
Hdf5Description describe_hdf5(int descriptor, int64_t size, const std::string& path);

// What that process handed back, for a file of `size` bytes; false where it makes no sense.
bool read_description(std::string_view answer, int64_t size, Hdf5Description& description);

// Writes all elements of a dataset, packed, to `target`, an empty file. Errors as above.
void unpack_hdf5(int descriptor, int64_t size, const std::string& path, const Hdf5File::Dataset& dataset, int target);

}  // namespace carillon
