#map = affine_map<(d0, d1, d2, d3) -> (d2, d3, d0, d1)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1)>
#map2 = affine_map<(d0, d1) -> (d0, d1)>
module attributes {keras.stage = "regions"} {
  func.func private @sum_0(%arg0: tensor<2x21x3x5xbf16>) -> tensor<3x5xf32> attributes {keras.kernel = "loop", keras.layers = []} {
    %0 = tensor.empty() : tensor<3x5xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<3x5xf32>) -> tensor<3x5xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%arg0 : tensor<2x21x3x5xbf16>) outs(%1 : tensor<3x5xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %5 = arith.extf %in : bf16 to f32
      %6 = arith.addf %out, %5 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<3x5xf32>
    %3 = tensor.empty() : tensor<3x5xf32>
    %4 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<3x5xf32>) outs(%3 : tensor<3x5xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<3x5xf32>
    return %4 : tensor<3x5xf32>
  }
  func.func private @k_0_matmul_1(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> tensor<19x15xf32> attributes {keras.kernel = "matmul", keras.layers = ["mha/0/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %3 = arith.extf %in : bf16 to f32
      linalg.yield %3 : f32
    } -> tensor<19x15xf32>
    return %2 : tensor<19x15xf32>
  }
  func.func private @matmul_2(%arg0: tensor<42x15xbf16>, %arg1: tensor<19x15xbf16>) -> tensor<42x19xbf16> attributes {keras.kernel = "matmul", keras.layers = []} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    return %0 : tensor<42x19xbf16>
  }
  func.func private @sum_3(%arg0: tensor<2x21x3x5xbf16>) -> tensor<3x5xf32> attributes {keras.kernel = "loop", keras.layers = []} {
    %0 = tensor.empty() : tensor<3x5xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<3x5xf32>) -> tensor<3x5xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%arg0 : tensor<2x21x3x5xbf16>) outs(%1 : tensor<3x5xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %5 = arith.extf %in : bf16 to f32
      %6 = arith.addf %out, %5 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<3x5xf32>
    %3 = tensor.empty() : tensor<3x5xf32>
    %4 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<3x5xf32>) outs(%3 : tensor<3x5xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<3x5xf32>
    return %4 : tensor<3x5xf32>
  }
  func.func private @k_1_matmul_4(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> tensor<19x15xf32> attributes {keras.kernel = "matmul", keras.layers = ["mha/1/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %3 = arith.extf %in : bf16 to f32
      linalg.yield %3 : f32
    } -> tensor<19x15xf32>
    return %2 : tensor<19x15xf32>
  }
  func.func private @matmul_5(%arg0: tensor<42x15xbf16>, %arg1: tensor<19x15xbf16>) -> tensor<42x19xbf16> attributes {keras.kernel = "matmul", keras.layers = []} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    return %0 : tensor<42x19xbf16>
  }
  func.func private @matmul_add_tanh_6(%arg0: tensor<42x15xbf16>, %arg1: tensor<19x15xbf16>, %arg2: tensor<42x19xbf16>, %arg3: tensor<42x19xbf16>) -> tensor<42x19xbf16> attributes {keras.kernel = "matmul", keras.layers = [], keras.reason = ["matmul_2: only pointwise loops fit behind a template", "matmul_5: only pointwise loops fit behind a template"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = true} : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %1 = tensor.empty() : tensor<42x19xbf16>
    %2 = linalg.generic {indexing_maps = [#map2, #map2, #map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%arg2, %0, %arg3 : tensor<42x19xbf16>, tensor<42x19xbf16>, tensor<42x19xbf16>) outs(%1 : tensor<42x19xbf16>) attrs =  {keras.op = "tanh"} {
    ^bb0(%in: bf16, %in_0: bf16, %in_1: bf16, %out: bf16):
      %3 = arith.extf %in : bf16 to f32
      %4 = arith.extf %in_0 : bf16 to f32
      %5 = arith.addf %3, %4 fastmath<reassoc,nsz,contract> : f32
      %6 = arith.extf %in_1 : bf16 to f32
      %7 = arith.addf %5, %6 fastmath<reassoc,nsz,contract> : f32
      %8 = math.tanh %7 fastmath<reassoc,nsz,contract> : f32
      %9 = arith.truncf %8 : f32 to bf16
      linalg.yield %9 : bf16
    } -> tensor<42x19xbf16>
    return %2 : tensor<42x19xbf16>
  }
  func.func private @sum_7(%arg0: tensor<2x21x3x5xbf16>) -> tensor<3x5xf32> attributes {keras.kernel = "loop", keras.layers = []} {
    %0 = tensor.empty() : tensor<3x5xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<3x5xf32>) -> tensor<3x5xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%arg0 : tensor<2x21x3x5xbf16>) outs(%1 : tensor<3x5xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %5 = arith.extf %in : bf16 to f32
      %6 = arith.addf %out, %5 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<3x5xf32>
    %3 = tensor.empty() : tensor<3x5xf32>
    %4 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<3x5xf32>) outs(%3 : tensor<3x5xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<3x5xf32>
    return %4 : tensor<3x5xf32>
  }
  func.func private @k_2_matmul_8(%arg0: tensor<42x19xbf16>, %arg1: tensor<42x15xbf16>) -> tensor<19x15xf32> attributes {keras.kernel = "matmul", keras.layers = ["mha/2/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xbf16>
    %1 = tensor.empty() : tensor<19x15xf32>
    %2 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<19x15xbf16>) outs(%1 : tensor<19x15xf32>) attrs =  {keras.op = "cast"} {
    ^bb0(%in: bf16, %out: f32):
      %3 = arith.extf %in : bf16 to f32
      linalg.yield %3 : f32
    } -> tensor<19x15xf32>
    return %2 : tensor<19x15xf32>
  }
  func.func @main(%arg0: tensor<42x19xbf16>, %arg1: tensor<19x15xbf16>, %arg2: tensor<2x21x3x5xbf16>, %arg3: tensor<19x15xbf16>, %arg4: tensor<2x21x3x5xbf16>, %arg5: tensor<19x15xbf16>, %arg6: tensor<2x21x3x5xbf16>) -> (tensor<42x19xbf16>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>) {
    %0 = call @sum_0(%arg2) : (tensor<2x21x3x5xbf16>) -> tensor<3x5xf32>
    %collapsed = tensor.collapse_shape %arg2 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %1 = call @k_0_matmul_1(%arg0, %collapsed) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xf32>
    %2 = call @matmul_2(%collapsed, %arg1) : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %3 = call @sum_3(%arg4) : (tensor<2x21x3x5xbf16>) -> tensor<3x5xf32>
    %collapsed_0 = tensor.collapse_shape %arg4 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %4 = call @k_1_matmul_4(%arg0, %collapsed_0) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xf32>
    %collapsed_1 = tensor.collapse_shape %arg6 [[0, 1], [2, 3]] : tensor<2x21x3x5xbf16> into tensor<42x15xbf16>
    %5 = call @matmul_5(%collapsed_1, %arg5) : (tensor<42x15xbf16>, tensor<19x15xbf16>) -> tensor<42x19xbf16>
    %6 = call @matmul_add_tanh_6(%collapsed_0, %arg3, %2, %5) : (tensor<42x15xbf16>, tensor<19x15xbf16>, tensor<42x19xbf16>, tensor<42x19xbf16>) -> tensor<42x19xbf16>
    %7 = call @sum_7(%arg6) : (tensor<2x21x3x5xbf16>) -> tensor<3x5xf32>
    %8 = call @k_2_matmul_8(%arg0, %collapsed_1) : (tensor<42x19xbf16>, tensor<42x15xbf16>) -> tensor<19x15xf32>
    return %6, %0, %1, %3, %4, %7, %8 : tensor<42x19xbf16>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>, tensor<3x5xf32>, tensor<19x15xf32>
  }
}
