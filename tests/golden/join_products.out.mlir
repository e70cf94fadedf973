#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1, d0)>
#map2 = affine_map<(d0, d1) -> (d0)>
module attributes {keras.stage = "regions"} {
  func.func private @matmul_add_tanh_6_of_3(%arg0: tensor<42x15xbf16>, %arg1: tensor<19x15xbf16>, %arg2: tensor<42x15xbf16>, %arg3: tensor<19x15xbf16>, %arg4: tensor<42x15xbf16>, %arg5: tensor<19x15xbf16>) -> tensor<42x19xbf16> attributes {keras.kernel = "products", keras.reason = ["matmul_2: only pointwise loops fit behind a template", "matmul_5: only pointwise loops fit behind a template"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %1 = "keras.matmul"(%arg2, %arg3) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %2 = "keras.matmul"(%arg4, %arg5) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %3 = tensor.empty() : tensor<42x19xbf16>
    %4 = linalg.generic {indexing_maps = [#map, #map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%1, %2, %0 : tensor<42x19xbf16>, tensor<42x19xbf16>, tensor<42x19xbf16>) outs(%3 : tensor<42x19xbf16>) attrs =  {keras.op = "tanh"} {
    ^bb0(%in: bf16, %in_0: bf16, %in_1: bf16, %out: bf16):
      %5 = arith.extf %in : bf16 to f32
      %6 = arith.extf %in_0 : bf16 to f32
      %7 = arith.addf %5, %6 fastmath<reassoc,nsz,contract> : f32
      %8 = arith.extf %in_1 : bf16 to f32
      %9 = arith.addf %7, %8 fastmath<reassoc,nsz,contract> : f32
      %10 = math.tanh %9 fastmath<reassoc,nsz,contract> : f32
      %11 = arith.truncf %10 : f32 to bf16
      linalg.yield %11 : bf16
    } -> tensor<42x19xbf16>
    return %4 : tensor<42x19xbf16>
  }
  func.func private @k_0_matmul_1_sums(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>) attributes {keras.kernel = "products", keras.layers = ["mha/0/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      linalg.yield %6 : f32
    } -> tensor<19x15xf32>
    %3 = tensor.empty() : tensor<15xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %4 = linalg.fill ins(%cst : f32) outs(%3 : tensor<15xf32>) -> tensor<15xf32>
    %5 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "reduction"]} ins(%arg1 : tensor<42x15xbf16>) outs(%4 : tensor<15xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      %7 = arith.addf %out, %6 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %7 : f32
    } -> tensor<15xf32>
    return %2, %5 : tensor<19x15xf32>, tensor<15xf32>
  }
  func.func private @k_1_matmul_4_sums(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>) attributes {keras.kernel = "products", keras.layers = ["mha/1/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      linalg.yield %6 : f32
    } -> tensor<19x15xf32>
    %3 = tensor.empty() : tensor<15xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %4 = linalg.fill ins(%cst : f32) outs(%3 : tensor<15xf32>) -> tensor<15xf32>
    %5 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "reduction"]} ins(%arg1 : tensor<42x15xbf16>) outs(%4 : tensor<15xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      %7 = arith.addf %out, %6 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %7 : f32
    } -> tensor<15xf32>
    return %2, %5 : tensor<19x15xf32>, tensor<15xf32>
  }
  func.func private @k_2_matmul_8_sums(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>) attributes {keras.kernel = "products", keras.layers = ["mha/2/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      linalg.yield %6 : f32
    } -> tensor<19x15xf32>
    %3 = tensor.empty() : tensor<15xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %4 = linalg.fill ins(%cst : f32) outs(%3 : tensor<15xf32>) -> tensor<15xf32>
    %5 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "reduction"]} ins(%arg1 : tensor<42x15xbf16>) outs(%4 : tensor<15xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %6 = arith.extf %in : bf16 to f32
      %7 = arith.addf %out, %6 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %7 : f32
    } -> tensor<15xf32>
    return %2, %5 : tensor<19x15xf32>, tensor<15xf32>
  }
  func.func @main(%arg0: tensor<42x19xbf16>, %arg1: tensor<19x15xbf16>, %arg2: tensor<2x21x3x5xbf16>, %arg3: tensor<19x15xbf16>, %arg4: tensor<2x21x3x5xbf16>, %arg5: tensor<19x15xbf16>, %arg6: tensor<2x21x3x5xbf16>) -> (tensor<42x19xbf16>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>) {
    %collapsed = tensor.collapse_shape %arg2 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %0:2 = call @k_0_matmul_1_sums(%arg0, %collapsed) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>)
    %expanded = tensor.expand_shape %0#1 [[0, 1]] output_shape [3, 5] : tensor<15xf32> into tensor<3x5xf32>
    %collapsed_0 = tensor.collapse_shape %arg4 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %1:2 = call @k_1_matmul_4_sums(%arg0, %collapsed_0) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>)
    %expanded_1 = tensor.expand_shape %1#1 [[0, 1]] output_shape [3, 5] : tensor<15xf32> into tensor<3x5xf32>
    %collapsed_2 = tensor.collapse_shape %arg6 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %2 = call @matmul_add_tanh_6_of_3(%collapsed_2, %arg5, %collapsed, %arg1, %collapsed_0, %arg3) : (tensor<42x15xbf16>, tensor<19x15xbf16>, tensor<42x15xbf16>, tensor<19x15xbf16>, tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %3:2 = call @k_2_matmul_8_sums(%arg0, %collapsed_2) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> (tensor<19x15xf32>, tensor<15xf32>)
    %expanded_3 = tensor.expand_shape %3#1 [[0, 1]] output_shape [3, 5] : tensor<15xf32> into tensor<3x5xf32>
    return %2, %expanded, %0#0, %expanded_1, %1#0, %expanded_3, %3#0 : tensor<42x19xbf16>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>
  }
}
