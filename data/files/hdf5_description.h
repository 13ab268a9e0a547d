// The contents of an HDF5 file as plain data, determined by another process.
//
// The HDF5 library is not safe with untrusted files: version 1.10.8 can loop forever, write past its buffers and open
// other files by name. So no command reads a file with it. describe_hdf5 starts this same program again with minimal
// rights (hdf5_child.h: the open file, a pipe, limits on memory and processor time, no new privileges). That process
// opens the file with the library, examines every group, link, type, shape, layout and filter, and writes down names
// and numbers. Here they are checked against the file's size before they are used. Contiguous elements are then read
// directly from the file; a chunked dataset is unpacked once into an unnamed file, again by such a process.
//
// A description costs the start of one process, about as long as `carillon --version` takes (data/README.md, "Files of
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
    int64_t place = -1;   // byte of the file at which the packed elements begin; -1: they are not stored contiguously
    std::string refused;  // why it cannot be read; empty if it can
  };
  struct Attribute {
    std::string value;    // a text or bytes
    std::string refused;  // as above
  };
  std::map<std::string, Entry> datasets;        // by path, "model/model.norm.weight"
  std::map<std::string, Attribute> attributes;  // of the root: texts and arrays of bytes; others are omitted
};

// `descriptor` is the file, open for reading, of `size` bytes; `path` names it in messages. Error 65 if it is not an
// HDF5 file, is damaged, or makes the library crash or loop; 74 if the disk fails or no process can be started.
Hdf5Description describe_hdf5(int descriptor, int64_t size, const std::string& path);

// Parses the output of that process for a file of `size` bytes; false if it is inconsistent.
bool read_description(std::string_view answer, int64_t size, Hdf5Description& description);

// Writes all elements of a dataset, packed, to `target`, an empty file. Errors as above.
void unpack_hdf5(int descriptor, int64_t size, const std::string& path, const Hdf5File::Dataset& dataset, int target);

}  // namespace carillon
