// A library that goes by NCCL's name.
extern "C" int autoglm_second_copy() {
  return 2;
}
